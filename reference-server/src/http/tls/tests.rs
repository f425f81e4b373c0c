//! Which certificate files are accepted, and the messages about the others.

use std::{fs, path::PathBuf};

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use tempfile::TempDir;

use super::*;
use crate::cli::{args::ServeArgs, check_config};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

/// Files in a directory, with the names that a test asks for.
struct Directory(TempDir);

impl Directory {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &str) -> Option<PathBuf> {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        Some(path)
    }

    /// Writes `NAME.pem` and `NAME.key`.
    fn issue(&self, name: &str, last_year: i32) -> CertificateFiles {
        let key = KeyPair::generate().unwrap();
        let mut terms = CertificateParams::new(["shop.example".to_owned()]).unwrap();
        terms.not_after = date_time_ymd(last_year, 12, 31);
        let certificate = terms.self_signed(&key).unwrap();
        CertificateFiles {
            certificate_file: self.write(&format!("{name}.pem"), &certificate.pem()),
            key_file: self.write(&format!("{name}.key"), &key.serialize_pem()),
        }
    }
}

/// Returns the only problem with these files.
#[track_caller]
fn problem(files: CertificateFiles) -> String {
    let mut problems = Tls::new("public", &files, NOW).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.remove(0)
}

#[test]
fn a_valid_pair_is_accepted_and_its_key_is_never_shown() {
    let directory = Directory::new();
    assert!(Tls::new("public", &CertificateFiles::default(), NOW).unwrap().is_none());
    let files = directory.issue("good", 2040);
    let tls = Tls::new("public", &files, NOW).unwrap().unwrap();
    // 2040-12-31T00:00:00Z
    assert_eq!(tls.ends_at(), Timestamp::from_millis(2_240_524_800_000));
    let key = fs::read_to_string(files.key_file.unwrap()).unwrap();
    let shown = format!("{tls:?}");
    assert!(shown.contains("ends_at"), "{shown}");
    for line in key.lines().filter(|line| !line.starts_with("-----")) {
        assert!(!shown.contains(line));
    }
    let bytes = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
    let bytes = format!("{:?}", &bytes.secret_der()[..8]);
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])));
}

#[test]
fn files_that_clients_would_reject_are_refused() {
    let directory = Directory::new();
    let (good, other) = (directory.issue("good", 2040), directory.issue("other", 2040));
    let with = |certificate_file: Option<PathBuf>, key_file: Option<PathBuf>| CertificateFiles {
        certificate_file: certificate_file.or_else(|| good.certificate_file.clone()),
        key_file: key_file.or_else(|| good.key_file.clone()),
    };
    let certificate = fs::read_to_string(good.certificate_file.as_ref().unwrap()).unwrap();
    let key = fs::read_to_string(good.key_file.as_ref().unwrap()).unwrap();
    for (files, start, end) in [
        (with(Some("/nowhere".into()), None), "certificate_file: /nowhere: ", "(os error 2)"),
        (with(None, Some("/nowhere".into())), "key_file: /nowhere: ", "(os error 2)"),
        (with(directory.write("empty", ""), None), "certificate_file: ", "(BEGIN CERTIFICATE)"),
        (
            with(directory.write("half", &certificate[..200]), None),
            "certificate_file: ",
            "(BEGIN CERTIFICATE)",
        ),
        (with(good.key_file.clone(), None), "certificate_file: ", "(BEGIN CERTIFICATE)"),
        (with(None, good.certificate_file.clone()), "key_file: ", "must be decrypted"),
        (with(None, directory.write("half", &key[..100])), "key_file: ", "must be decrypted"),
        (with(None, other.key_file), "key_file: ", "good.pem"),
        (directory.issue("old", 2026), "certificate_file: ", "2026-12-31T00:00:00.000Z; replace it"),
    ] {
        let problem = problem(files);
        assert!(problem.starts_with(&format!("tls.public.{start}")) && problem.ends_with(end), "{problem}");
    }
    let no_der = certificate.replace("\nMII", "\nMIX");
    assert!(
        problem(with(directory.write("broken", &no_der), None)).starts_with("tls.public.certificate_file: ")
    );
}

#[test]
fn check_config_reports_all_certificate_problems() {
    let directory = Directory::new();
    let (good, other) = (directory.issue("good", 2040), directory.issue("other", 2040));
    let variable = |name: &str, value: &Option<PathBuf>| {
        (format!("FLASHSALE__TLS__{name}").into(), value.as_ref().unwrap().clone().into_os_string())
    };
    let check = |variables: Vec<_>| {
        let args = ServeArgs { in_memory: true, ..ServeArgs::default() };
        check_config::check(&args, variables).accepted().map_err(|problems| problems.to_string())
    };
    let taken = check(vec![
        variable("PUBLIC__CERTIFICATE_FILE", &good.certificate_file),
        variable("PUBLIC__KEY_FILE", &good.key_file),
    ]);
    assert!(taken.is_ok_and(|config| config.tls.operations.key_file.is_none()));

    let nowhere = Some("/nowhere".into());
    let problems = check(vec![
        variable("PUBLIC__CERTIFICATE_FILE", &nowhere),
        variable("PUBLIC__KEY_FILE", &nowhere),
        variable("OPERATIONS__CERTIFICATE_FILE", &good.certificate_file),
        variable("OPERATIONS__KEY_FILE", &other.key_file),
    ])
    .unwrap_err();
    for expected in [
        "3 problem(s)",
        "tls.public.certificate_file: /nowhere: ",
        "tls.public.key_file: /nowhere: ",
        "tls.operations.key_file: ",
    ] {
        assert!(problems.contains(expected), "{expected} in {problems}");
    }
    let problems = check(vec![variable("OPERATIONS__KEY_FILE", &good.key_file)]).unwrap_err();
    assert!(
        problems.contains("tls.operations: give certificate_file and key_file, or neither"),
        "{problems}"
    );
}
