//! Compiles the shim and links the system's libisal.

fn main() {
    if std::env::var_os("CARGO_FEATURE_LINK").is_none() {
        return;
    }
    println!("cargo::rerun-if-changed=src/shim.c");
    cc::Build::new().file("src/shim.c").opt_level(2).compile("ferry_isal_shim");
    // The static library, where the system has one: the program then needs nothing installed.
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib", "/usr/local/lib"];
    match folders.iter().find(|folder| std::path::Path::new(folder).join("libisal.a").exists()) {
        Some(folder) => println!("cargo::rustc-link-search=native={folder}\ncargo::rustc-link-lib=static=isal"),
        None => println!("cargo::rustc-link-lib=dylib=isal"),
    }
}
