//! Group coordinator as a machine without I/O
