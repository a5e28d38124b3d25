//! The cluster image and the controller that writes its records, without I/O
