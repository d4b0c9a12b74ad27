//! Golden tree → stream → restored tree; raw partitions; block adapters.
