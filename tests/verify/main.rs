//! `trailsync verify`: what is altered, missing or not vouched for is found, by name; what is whole is proven.

mod carried;
mod cases;
mod deletions;
mod flips;
mod maker;
