//! Compiles the shim and links the system's libisal.

fn main() {
    println!("cargo::rerun-if-changed=src/shim.c");
    cc::Build::new().file("src/shim.c").opt_level(2).compile("ferry_isal_shim");
    // The static library, where the system has one: the program then needs nothing installed.
    println!("cargo::rustc-link-lib=static=isal");
    for folder in ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/local/lib"] {
        if std::path::Path::new(folder).join("libisal.a").exists() {
            println!("cargo::rustc-link-search=native={folder}");
        }
    }
}
