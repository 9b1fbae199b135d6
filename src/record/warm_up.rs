//! Compiles kernels ahead of time, and keeps the driver's pipeline cache in a file.

use std::path::Path;

use crate::engine::{Gpu, guard};
use crate::error::{Error, Result};
use crate::files::write_whole;
use crate::record::Recorder;

/// Compilation ahead of time.
///
/// A kernel is compiled when it is first recorded, once for each variant that is used. The variant
/// depends on options, sizes and alignments.
impl Gpu {
    /// Compiles the kernels of a recording, so that its first real run takes no longer than later
    /// ones. Nothing runs on the device. Kernels are compiled on all cores of the machine at once:
    /// threads are started, and have ended when this returns. (On OpenGL and on the web, the calling
    /// thread compiles alone.) To compile in the background, call this from another thread with a
    /// clone of the `Gpu`.
    ///
    /// An [`Optimizer`](crate::optim::Optimizer) counts recorded steps: pass one that is not used
    /// afterwards. A [`Training`](crate::nn::Training) has its own
    /// [`warm_up`](crate::nn::Training::warm_up).
    ///
    /// # Errors
    /// The errors of `record`; [`Error::Gpu`] if a kernel does not compile.
    ///
    /// # Examples
    /// ```
    /// use xent::loss::{CrossEntropy, Grad};
    /// use xent::{Gpu, Tensor};
    /// # let Ok(gpu) = Gpu::headless() else { return Ok(()) };
    /// let logits = Tensor::<f32>::zeros(&gpu, [64, 10])?;
    /// let targets = Tensor::<i32>::zeros(&gpu, [64])?;
    /// let options = CrossEntropy::default();
    /// gpu.warm_up(|rec| rec.cross_entropy_with(&logits, &targets, &options, Grad::New).map(drop))?;
    /// # Ok::<(), xent::Error>(())
    /// ```
    pub fn warm_up(&self, record: impl FnOnce(&mut Recorder<'_>) -> Result<()>) -> Result<()> {
        let label = wgpu::CommandEncoderDescriptor { label: Some("xent.warm_up") };
        let mut encoder = guard(self.device(), "warm_up", || self.device().create_command_encoder(&label))?;
        let mut recorder = self.record(&mut encoder);
        recorder.wanted = Some(Vec::new());
        record(&mut recorder)?;
        let wanted = recorder.wanted.take().unwrap_or_default();
        // Frees the memory of the recording.
        drop(recorder);
        drop(encoder);
        self.pipelines().compile(self.device(), &wanted)
    }

    /// Compiles all further kernels through the driver's pipeline cache, seeded from `path` if it
    /// exists. Returns whether the device supports one: that takes `Features::PIPELINE_CACHE`,
    /// today only on Vulkan. (Many drivers also keep a cache of their own.) A file counts as empty
    /// if it is from another driver or device, or if wgpu or the driver detects that it is damaged.
    ///
    /// # Safety
    /// The driver trusts the contents of the file. The file must have been written by
    /// [`save_pipeline_cache`](Self::save_pipeline_cache), or not exist.
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
    #[expect(unsafe_code, reason = "the caller vouches for the file")]
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
            // SAFETY: the caller promises that the data came from `get_data`.
            unsafe { self.device().create_pipeline_cache(&descriptor) }
        })?;
        self.pipelines().set_cache(cache);
        Ok(true)
    }

    /// Writes the driver's pipeline cache to a file, completely or not at all. Returns whether
    /// there is one to write, which takes an earlier
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
