//! Files that are written completely or not at all.

use std::path::Path;

/// Writes a file completely or not at all.
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
    // Sync the directory, so that the new name survives a power failure. Errors are ignored,
    // because not every directory can be opened.
    #[cfg(unix)]
    let _ = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
    Ok(())
}

/// Creates a temporary file with the permissions of an ordinary file, which it will become; by
/// default it would be private.
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
