//! Validates a configuration together with the files that it names.

use std::{env, ffi::OsString};

use flashsale_core::domain::{Clock as _, SystemClock};

use crate::{
    auth::{jwt::Jwt, keyring},
    cli::args::ServeArgs,
    config::{Checked, Config, ConfigErrors, HttpConfig, ListenAddress},
    http::tls,
    integrations::webhook::Webhook,
};

/// Loads and validates the configuration of this process, including the files that it names.
///
/// # Errors
/// All problems at once, each with its key and the allowed values.
pub fn load(args: &ServeArgs) -> Result<Config, ConfigErrors> {
    check(args, env::vars_os()).accepted()
}

/// Validates the values, the names of the listeners, and the files with secrets, keys and
/// certificates.
pub fn check(args: &ServeArgs, environment: impl IntoIterator<Item = (OsString, OsString)>) -> Checked {
    let checked = Checked::new(args, environment);
    let mut problems = listener_problems(&checked.config().http);
    problems.extend(file_problems(checked.config()));
    checked.with_problems(problems)
}

fn listener_problems(http: &HttpConfig) -> Vec<String> {
    let listeners = [("http.public", &http.public), ("http.operations", &http.operations)];
    let problem = |(key, address): (&str, &ListenAddress)| {
        let error = address.resolve().err()?;
        Some(format!("{key}: cannot look up {address}: {error}; write an address such as 127.0.0.1:8080"))
    };
    listeners.into_iter().filter_map(problem).collect()
}

fn file_problems(config: &Config) -> Vec<String> {
    let mut problems = tls::problems(&config.tls, SystemClock.now());
    problems.extend(keyring::problems(config));
    problems.extend(Webhook::problem(&config.notifications));
    if config.identity.jwt.is_on() {
        problems.extend(Jwt::problems(&config.identity.jwt));
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn wrong_values_and_unknown_keys_are_reported_together() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("shop.toml");
        fs::write(
            &file,
            "speed = 1\n[http]\nhead_fields = 101\n[secrets]\nsession_key_files = [\"/nowhere\"]\n",
        )
        .unwrap();
        let mut args = ServeArgs::default();
        args.storage.config = Some(file);
        args.demo = true;
        let checked = check(&args, [("FLASHSALE__ORDER__MAX_BATCH".into(), "0".into())]);
        let report = checked.report();
        for (key, value, source) in [
            ("demo", "true", "flag --demo"),
            ("identity.demo", "true", "flag --demo"),
            ("http.head_fields", "101", "file"),
            ("order.max_batch", "0", "environment FLASHSALE__ORDER__MAX_BATCH"),
            ("http.public_url", "none", "default"),
        ] {
            let line = report.lines().find(|line| line.starts_with(&format!("{key} = {value} "))).unwrap();
            assert!(line.contains(&format!("# {source}")), "{line}");
        }
        let problems = checked.accepted().unwrap_err().0;
        for start in
            ["speed: ", "http.head_fields: ", "order.max_batch: ", "secrets.session_key_files[0]: /nowhere: "]
        {
            assert!(problems.iter().any(|problem| problem.starts_with(start)), "{start} in {problems:?}");
        }
        assert_eq!(problems.len(), 4, "{problems:?}");
    }
}
