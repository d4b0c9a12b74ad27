//! cpio in the "newc" form that the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst):
//! a writer whose same entries give the same bytes, and a reader that trusts nothing it reads.
