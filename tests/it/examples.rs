//! Runs the examples as a user does.

use std::path::Path;
use std::process::{Command, Output};

use crate::common::gpu;

fn example(name: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(["run", "--quiet", "--release", "--example", name, "--"]).args(arguments);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).output().expect("cargo runs")
}

fn digits(arguments: &[&str]) -> Output {
    example("digits", arguments)
}

/// The numbers that follow `label` in the lines that start with `epoch`.
fn losses(output: &Output, label: &str) -> Vec<String> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let lines = stdout.lines().filter(|line| line.starts_with("epoch"));
    let after = |line: &str| line.split(label).nth(1).map(|rest| rest.chars().take(6).collect());
    lines.map(|line| after(line).unwrap_or_else(|| panic!("no {label:?} in {line:?}"))).collect()
}

#[test]
fn the_examples_print_pytorchs_losses() {
    let Some(gpu) = gpu() else { return };
    drop(gpu);
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().to_str().expect("UTF-8");
    for (name, file, losses_of) in [
        ("even_odd", "seed_train_ce_linear1x2", &[("loss ", "loss_logged")][..]),
        ("binary", "seed_train_bce_linear1x1", &[(": loss ", "loss_logged")]),
        (
            "two_heads",
            "seed_train_combined",
            &[("BCE ", "loss_bce_logged"), ("MSE ", "loss_mse_logged"), ("= ", "loss_logged")],
        ),
    ] {
        let file = format!("{}/tests/corpus/{file}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let output = example(name, &["--init", &file, "--out", out]);
        let bytes = std::fs::read(&file).expect("the corpus");
        let corpus = safetensors::SafeTensors::deserialize(&bytes).expect("a corpus file");
        for (label, tensor) in losses_of {
            let want: Vec<f32> = bytemuck::pod_collect_to_vec(corpus.tensor(tensor).expect("logged").data());
            let want: Vec<String> = want.iter().map(|loss| format!("{loss:.4}")).collect();
            assert_eq!(losses(&output, label), want, "{name}: {tensor}");
        }
    }
    let output = example("cross_entropy", &[]);
    assert!(String::from_utf8_lossy(&output.stdout).contains("\nloss: 1.2130\n"));
}

#[test]
fn a_host_application_learns_through_its_own_passes() {
    let Some(gpu) = gpu() else { return };
    drop(gpu);
    let output = example("host_app", &["--epochs", "300"]);
    let losses: Vec<f64> = losses(&output, "loss ").iter().map(|loss| loss.parse().expect("a number")).collect();
    // Guessing costs ln 3, and the first logits are all 0.
    assert!(losses.len() == 4 && losses[0] == 1.0986, "{losses:?}");
    assert!(losses.is_sorted_by(|a, b| a > b) && losses[3] < 0.3, "{losses:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("\n0 submissions by xent, 300 by the program\n"));
}

#[test]
fn breast_cancer_is_told_apart() {
    let Some(gpu) = gpu() else { return };
    drop(gpu);
    let directory = tempfile::tempdir().expect("a directory");
    let output = example("breast_cancer", &["--out", directory.path().to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    let mean = line(&stdout, "mean of 5 splits: ROC-AUC ").trim_start_matches("mean of 5 splits: ROC-AUC ");
    let (auc, accuracy) = mean.split_once(", accuracy ").expect("both");
    assert!(auc.parse::<f64>().expect("a number") >= 0.99, "{mean}");
    assert!(accuracy.parse::<f64>().expect("a number") >= 0.95, "{mean}");
    assert!(directory.path().join("roc.svg").exists());
}

/// A run that is killed at any moment leaves a complete checkpoint, and continues from it to the
/// same bits as an uninterrupted run.
#[test]
fn a_killed_run_goes_on_to_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    drop(gpu);
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("UTF-8").to_owned();
    let (checkpoint, out) = (path("checkpoint"), path("killed"));
    let whole = example("digits", &["--epochs", "12", "--out", &path("whole")]);
    assert!(whole.status.success(), "{}", String::from_utf8_lossy(&whole.stderr));
    let arguments = ["--epochs", "12", "--out", &out, "--checkpoint", &checkpoint];
    let mut rng = fastrand::Rng::with_seed(5);
    let mut kills = 0;
    for attempt in 0u64.. {
        assert!(attempt < 200, "it gets on");
        // The program itself: killing cargo would leave it alive.
        let program = std::env::current_exe().expect("this test's path");
        let program = program.parent().and_then(Path::parent).expect("target/release").join("examples/digits");
        let mut child = Command::new(program)
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("it runs");
        // Longer with each attempt, so that the slowest machine makes progress.
        let alive = std::time::Duration::from_millis(rng.u64(250..1500 + 100 * attempt));
        let start = std::time::Instant::now();
        while start.elapsed() < alive && child.try_wait().expect("a child").is_none() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        if let Some(status) = child.try_wait().expect("a child") {
            assert!(status.success(), "{status}");
            break;
        }
        child.kill().expect("a child");
        child.wait().expect("a child");
        kills += 1;
        if Path::new(&checkpoint).exists() {
            xent::state::State::load(&checkpoint).expect("a whole checkpoint");
        }
    }
    let model = |folder: &str| std::fs::read(Path::new(folder).join("model.safetensors")).expect("a model");
    assert!(model(&out) == model(&path("whole")), "the same bits after {kills} kills");
    assert!(kills > 0, "it was killed at least once");
}

fn line<'a>(output: &'a str, start: &str) -> &'a str {
    output.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("no line {start:?} in\n{output}"))
}

/// Checks that the program fails with exit code 2 and one line that contains all of `parts`, and
/// leaves nothing in `out`.
#[track_caller]
fn fails(arguments: &[&str], out: &Path, parts: &[&str]) {
    let output = digits(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    // Without a session, Mesa prints a warning of its own when OpenGL starts.
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

    // The saved model alone has the same accuracy.
    let path = out.join("model.safetensors");
    let only_test = digits(&["--seed", "3", "--model", path.to_str().expect("UTF-8")]);
    assert!(String::from_utf8_lossy(&only_test.stdout).ends_with(&format!("test accuracy: {accuracy}\n")));

    // Files that are not models.
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
        (&short, &["short.csv", "line 3", "column 4", "expected 65 columns"][..]),
        (&word, &["word.csv", "line 3", "column 5", "\"ink\""]),
        (&large, &["large.csv", "line 3", "column 5", "\"17\""]),
        (&label, &["label.csv", "line 3", "column 65", "\"11\""]),
        (&few, &["few.csv", "too few"]),
        (&empty, &["empty.csv", "at least one row"]),
    ] {
        fails(&["--data", file, "--out", out_argument], &out, parts);
    }
    assert!(digits(&["--help"]).status.success());
}
