//! Makes the figures of a group in one run and prints one line for each.

use std::process::ExitCode;

use flashsale_benches::groups;

/// The allocator of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [groups::core::OPEN_ORDERS] => groups::core::print_open_orders(),
        [groups::http::BARE, file] => groups::http::serve_bare(file.as_ref()),
        [group] => groups::run(group),
        _ => Err(format!("usage: figures <{}>", groups::NAMES.join("|")).into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("figures: {error}");
            ExitCode::FAILURE
        }
    }
}
