//! What a run does, seen from its driver.
