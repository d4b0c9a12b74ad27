//! What makes a restored tree a system of its own: each a pure plan and an apply.
