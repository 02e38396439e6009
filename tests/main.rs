//! x
mod cli {
    mod check;
}
