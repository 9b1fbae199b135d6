//! Files that once broke a loader, or might have. The properties of the fuzz targets hold for each
//! file, and its name tells whether it loads.

use std::path::Path;

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "a crate of its own for the fuzz targets")]
mod loaders;

fn each_kept(kind: &str, loads: fn(&[u8]) -> bool) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/kept").join(kind);
    let mut wrong = Vec::new();
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        let outcome = std::panic::catch_unwind(|| loads(&bytes));
        let right = match outcome {
            Ok(true) => name.starts_with("ok_"),
            Ok(false) => name.starts_with("err_"),
            Err(_) => false,
        };
        if !right {
            wrong.push(name);
        }
        count += 1;
    }
    assert!(wrong.is_empty() && count > 10, "{wrong:?} of {count}");
}

#[test]
fn states() {
    each_kept("state", loaders::state);
}

#[test]
fn tables() {
    each_kept("csv", loaders::csv);
}
