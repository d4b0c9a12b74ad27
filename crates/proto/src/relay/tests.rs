//! What a relay does, seen from its driver.
