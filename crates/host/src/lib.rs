//! The machine: programs, mounts, loop devices, ioctls. The only crate with `unsafe` or exec.
