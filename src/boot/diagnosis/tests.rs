//! Rows of the taxonomy of stalls.
