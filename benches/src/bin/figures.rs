//! Measures a group of figures and prints one line per figure.

use std::process::ExitCode;

use flashsale_benches::groups;

/// The same allocator as in the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [groups::core::OPEN_ORDERS] => groups::core::print_open_orders(),
        ["core", groups::core::SLOWEST] => groups::core::run_slowest(),
        [groups::http::BARE, file] => groups::http::serve_bare(file.as_ref()),
        [group] => groups::run(group),
        _ => Err(format!("usage: figures <{}> (or: core slowest)", groups::NAMES.join("|")).into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("figures: {error}");
            ExitCode::FAILURE
        }
    }
}
