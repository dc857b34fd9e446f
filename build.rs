//! Tells the linker to pack the relocations of the static binary: 22 kB that say little (RELR, which musl reads since
//! 1.2.4). A linker before binutils 2.38 does without, and says so.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_ENV").is_ok_and(|env| env == "musl") {
        // Without `-Wl,`, because the linker may be Rust's own, without a compiler in front. A compiler hands it on too.
        println!("cargo:rustc-link-arg-bins=-zpack-relative-relocs");
    }
}
