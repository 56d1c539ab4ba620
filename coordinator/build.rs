//! The pages are embedded: a file that is new or gone is a reason to embed them again.

fn main() {
    println!("cargo:rerun-if-changed=ui");
}
