//! In place of criterion, which shuttle's Tokio depends on for one trait and which takes a minute to compile.

/// What can measure futures; nothing here does.
pub mod async_executor {
    /// Runs a future to its end.
    pub trait AsyncExecutor {
        /// Returns what the future gives.
        fn block_on<T>(&self, future: impl Future<Output = T>) -> T;
    }
}
