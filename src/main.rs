//! The `witgate` binary: a thin shell over the library's command line.

fn main() {}
