//! The report as a program. What it measures is tested where it is measured.

use std::process::{Command, Output};

fn report(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_report"))
        .args(args)
        .output()
        .expect("the binary has been built for this test")
}

#[test]
fn a_bad_option_is_one_line_and_exit_code_2() {
    for args in [&["--fast"][..], &["--quick", "--json"]] {
        let output = report(args);
        assert_eq!(output.status.code(), Some(2));
        assert!(output.stdout.is_empty());
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(complaint.contains(args.last().unwrap()), "{complaint}");
    }
}

#[test]
fn help_names_every_option() {
    let output = report(&["--help"]);
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(
        ["--json", "--quick"]
            .iter()
            .all(|option| help.contains(option)),
        "{help}"
    );
}
