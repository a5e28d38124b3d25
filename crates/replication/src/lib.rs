//! One replica of one log as a machine without I/O: roles, epochs, in-sync replicas, watermarks
