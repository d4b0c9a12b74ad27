//! Kernel modules as depmod(8) describes them: dependencies, aliases, soft dependencies, built-in ones; which of them
//! a machine's hardware asks for (modalias); their files, plain or compressed.
//!
//! Pure but for reading below a given `lib/modules/RELEASE` directory. Not here: loading a module (`ka_host`), what
//! goes into an image (`ka-initrd`), what a clone is configured with (`ka_postinstall`). Issue 3 §2, §3.
