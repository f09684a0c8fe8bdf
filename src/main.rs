//! The `witgate` binary: a thin shell over the library's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // First of all, before any thread or runtime: as a guard this process must stay small and do nothing else.
    #[cfg(unix)]
    {
        use witgate::tools::mcp::guard;
        let mut args = std::env::args_os().skip(1);
        if args.next().is_some_and(|arg| arg == guard::ARGUMENT) {
            return guard::main(args);
        }
    }
    witgate::cli::main()
}
