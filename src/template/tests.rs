//! The rules of templates, one table each.
