//! The judges are judged.
