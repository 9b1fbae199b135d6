//! Turns wgpu's errors into results, with error scopes.

use super::opengl;
use crate::error::{Error, Result};

/// Runs wgpu calls in error scopes and returns what wgpu would otherwise report to the device's
/// error handler.
///
/// On the web, error scopes resolve after this function has returned; such errors are lost.
pub(crate) fn guard<R>(device: &wgpu::Device, op: &'static str, create: impl FnOnce() -> R) -> Result<R> {
    match in_scopes(device, create) {
        (made, None) => Ok(made),
        (_, Some(source)) => Err(Error::Gpu { op, source }),
    }
}

/// The result of `create`, and one of the errors that wgpu reports, in this order of precedence:
/// internal error, out of memory, validation error.
pub(crate) fn in_scopes<R>(device: &wgpu::Device, create: impl FnOnce() -> R) -> (R, Option<wgpu::Error>) {
    use wgpu::ErrorFilter as F;
    let _guard = opengl::lock_context(device);
    let scopes = [F::Validation, F::OutOfMemory, F::Internal].map(|filter| device.push_error_scope(filter));
    let made = create();
    let mut first = None;
    for scope in scopes.into_iter().rev() {
        let error = ready(scope.pop()).flatten();
        first = first.or(error);
    }
    (made, first)
}

/// The output of a future that is ready at once.
fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
