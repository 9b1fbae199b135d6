//! Files that are there as a whole or not at all.

use std::path::Path;

/// Writes a file, whole or not at all.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = temporary_file(directory)?;
    #[cfg(unix)]
    if let Ok(old) = std::fs::metadata(path) {
        file.as_file().set_permissions(old.permissions())?;
    }
    std::io::Write::write_all(&mut file, bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The new name survives a loss of power once the directory is written; not every directory can be opened for that.
    #[cfg(unix)]
    let _ = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

/// A temporary file is private by default; what it becomes is an ordinary file.
fn temporary_file(directory: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    let builder = tempfile::Builder::new();
    #[cfg(unix)]
    let builder = {
        let mut builder = builder;
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        builder
    };
    builder.tempfile_in(directory)
}
