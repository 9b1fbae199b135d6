//! The example `digits`, run as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::gpu;

fn digits(arguments: &[&str]) -> Output {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "--release", "--example", "digits", "--"]).args(arguments);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs")
}

fn line<'a>(output: &'a str, start: &str) -> &'a str {
    output.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no line {start:?} in\n{output}"))
}

/// Fails with exit code 2 and one line that contains all of `parts`, and leaves nothing in `out`.
#[track_caller]
fn fails(arguments: &[&str], out: &Path, parts: &[&str]) {
    let output = digits(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    // Without a session, Mesa complains on its own account when OpenGL starts.
    let errors: Vec<_> = stderr.lines().filter(|line| !line.contains("XDG_RUNTIME_DIR")).collect();
    assert!(errors.len() == 1 && errors[0].starts_with("error: "), "{stderr}");
    for part in parts {
        assert!(errors[0].contains(part), "{part:?} in {stderr}");
    }
    assert!(std::fs::read_dir(out).map_or(true, |mut files| files.next().is_none()), "nothing is left in {out:?}");
}

#[test]
fn learns_saves_loads_and_repeats() {
    let Some(gpu) = gpu() else { return };
    drop(gpu);
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("new/out");
    let out_argument = out.to_str().expect("a path in UTF-8");
    let run = || {
        let output = digits(&["--epochs", "15", "--seed", "3", "--out", out_argument]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let model = std::fs::read(out.join("model.safetensors")).expect("a model");
        (String::from_utf8(output.stdout).expect("UTF-8"), model)
    };
    let (stdout, model) = run();
    let submissions = line(&stdout, "15 epochs: ");
    assert!(submissions.contains("315 training steps in 315 submissions"), "{submissions}");
    assert!(line(&stdout, "epoch  15: ").contains("(guessing: 2.3026)"));
    let accuracy = stdout.lines().last().and_then(|line| line.strip_prefix("test accuracy: ")).expect("accuracy last");
    assert!(accuracy.parse::<f64>().expect("a number") >= 0.93, "{accuracy} after 15 epochs");
    let picture = std::fs::read_to_string(out.join("loss.svg")).expect("a picture");
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    assert_eq!(std::fs::read_dir(&out).expect("the folder").count(), 2, "the model and the picture, nothing else");

    let (again, same_model) = run();
    assert_eq!(model, same_model, "one seed, one model, to the bit");
    let without_time =
        |text: &str| text.lines().filter(|line| !line.contains("submissions")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(without_time(&stdout), without_time(&again));

    // The saved model alone gives the same accuracy.
    let path = out.join("model.safetensors");
    let only_test = digits(&["--seed", "3", "--model", path.to_str().expect("UTF-8")]);
    assert!(String::from_utf8_lossy(&only_test.stdout).ends_with(&format!("test accuracy: {accuracy}\n")));

    // A model that is no model.
    for (name, bytes, part) in [
        ("short", &model[..4], "short"),
        ("half", &model[..model.len() / 2], "half"),
        ("text", &b"not a model at all"[..], "text"),
    ] {
        let bad = directory.path().join(name);
        std::fs::write(&bad, bytes).expect("a file");
        let empty = directory.path().join("empty");
        fails(&["--model", bad.to_str().expect("UTF-8")], &empty, &[part]);
    }
}

#[test]
fn says_what_is_wrong_in_one_line_with_exit_code_2() {
    let Some(gpu) = gpu() else { return };
    drop(gpu);
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().join("out");
    let out_argument = out.to_str().expect("UTF-8");
    let good =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/digits.csv")).expect("data");
    let csv = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let lines: Vec<&str> = good.lines().collect();
    let with_line_3 = |line: &str| format!("{}\n{}\n{line}\n{}\n", lines[0], lines[1], lines[3]);
    let short = csv("short.csv", with_line_3("1,2,3"));
    let word = csv("word.csv", with_line_3(&lines[2].replacen("4,15", "4,ink", 1)));
    let large = csv("large.csv", with_line_3(&lines[2].replacen("4,15", "4,17", 1)));
    let label = csv("label.csv", with_line_3(&format!("{}11", &lines[2][..lines[2].len() - 1])));
    let few = csv("few.csv", format!("{}\n", lines[0]));
    let empty = csv("empty.csv", String::new());
    fails(&["--out", out_argument, "--nonsense"], &out, &["--nonsense"]);
    fails(&["--out", out_argument, "extra"], &out, &["extra"]);
    fails(&["--out", out_argument, "--epochs", "many"], &out, &["--epochs", "many"]);
    fails(&["--out", out_argument, "--epochs", "0"], &out, &["--epochs must be in 1..=100000, got 0"]);
    fails(&["--out", out_argument, "--epochs", "18446744073709551615"], &out, &["--epochs must be in 1..=100000"]);
    fails(&["--out", out_argument, "--epochs"], &out, &["--epochs"]);
    fails(&["--adapter", "abacus", "--out", out_argument], &out, &["abacus", "available"]);
    fails(&["--data", "/no/such/file.csv", "--out", out_argument], &out, &["/no/such/file.csv"]);
    fails(&["--model", "/no/such/model", "--out", out_argument], &out, &["/no/such/model"]);
    for (file, parts) in [
        (&short, &["short.csv", "line 3", "3 columns instead of 65"][..]),
        (&word, &["word.csv", "line 3", "column 5", "\"ink\""]),
        (&large, &["large.csv", "line 3", "column 5", "\"17\""]),
        (&label, &["label.csv", "line 3", "column 65", "\"11\""]),
        (&few, &["few.csv", "too few"]),
        (&empty, &["empty.csv", "too few"]),
    ] {
        fails(&["--data", file, "--out", out_argument], &out, parts);
    }
    assert!(digits(&["--help"]).status.success());
}
