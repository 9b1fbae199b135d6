//! Compiling ahead, and keeping what was compiled.

use std::path::Path;

use crate::engine::{Gpu, guard};
use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::record::Recorder;

/// Compiling ahead.
///
/// A kernel is compiled when it is first recorded, in as many forms as are used: which one depends on options, sizes and alignments.
impl Gpu {
    /// Compiles what a recording needs, so that the first such recording takes no longer than others: records it, and throws that away.
    /// Nothing runs. To compile while something else goes on, call it from a thread with a clone of the `Gpu`.
    ///
    /// An [`Optimizer`](crate::optim::Optimizer), and so a [`Training`](crate::nn::Training), counts the steps that are recorded: give it one that
    /// is not used afterwards.
    ///
    /// # Errors
    /// Those of what is recorded.
    ///
    /// # Examples
    /// ```
    /// use xent::loss::{CrossEntropy, Grad};
    /// use xent::{Gpu, Tensor};
    /// # if let Ok(gpu) = Gpu::headless() {
    /// let logits = Tensor::<f32>::zeros(&gpu, [64, 10])?;
    /// let targets = Tensor::<i32>::zeros(&gpu, [64])?;
    /// let options = CrossEntropy::default();
    /// gpu.warm_up(|rec| rec.cross_entropy_with(&logits, &targets, &options, Grad::New).map(drop))?;
    /// # }
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn warm_up(&self, record: impl FnOnce(&mut Recorder<'_>) -> Result<()>) -> Result<()> {
        let label = wgpu::CommandEncoderDescriptor { label: Some("xent.warm_up") };
        let mut encoder = guard(self.device(), "warm_up", || self.device().create_command_encoder(&label))?;
        record(&mut self.record(&mut encoder))
    }

    /// From here on compiles with the driver's cache, filled from a file if there is it. Gives whether the device has such a cache: that
    /// takes `Features::PIPELINE_CACHE`, which today only Vulkan has. (Many drivers keep one of their own besides.) A file of another
    /// driver or device, or one that is damaged so that wgpu or the driver sees it, counts as empty.
    ///
    /// # Safety
    /// The driver trusts what is in the file. It must be what [`save_pipeline_cache`](Self::save_pipeline_cache) wrote, or not be there.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be read; [`Error::Gpu`].
    ///
    /// # Examples
    /// ```no_run
    /// # use xent::Gpu;
    /// let gpu = Gpu::headless()?;
    /// // SAFETY: nobody but this program writes the file.
    /// unsafe { gpu.load_pipeline_cache("kernels.cache")? };
    /// // .. warm up, or work ..
    /// gpu.save_pipeline_cache("kernels.cache")?;
    /// # Ok::<(), xent::Error>(())
    /// ```
    #[expect(unsafe_code, reason = "the promise is the caller's")]
    pub unsafe fn load_pipeline_cache(&self, path: impl AsRef<Path>) -> Result<bool> {
        if !self.device().features().contains(wgpu::Features::PIPELINE_CACHE) {
            return Ok(false);
        }
        let path = path.as_ref();
        let data = match std::fs::read(path) {
            Ok(data) => Some(data),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(Error::File { path: path.to_owned(), source }),
        };
        let cache = guard(self.device(), "load_pipeline_cache", || {
            let descriptor =
                wgpu::PipelineCacheDescriptor { label: Some("xent"), data: data.as_deref(), fallback: true };
            // SAFETY: the caller promises that the data is what `get_data` gave.
            unsafe { self.device().create_pipeline_cache(&descriptor) }
        })?;
        self.pipelines().set_cache(cache);
        Ok(true)
    }

    /// Writes the driver's cache to a file, whole or not at all. Gives whether there is one to write: only after
    /// [`load_pipeline_cache`](Self::load_pipeline_cache).
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written.
    pub fn save_pipeline_cache(&self, path: impl AsRef<Path>) -> Result<bool> {
        let Some(data) = self.pipelines().cache().and_then(|cache| cache.get_data()) else { return Ok(false) };
        let path = path.as_ref();
        write_whole(path, &data).map_err(|source| Error::File { path: path.to_owned(), source })?;
        Ok(true)
    }
}
