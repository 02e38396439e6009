//! Living with change: configurations, services, credentials and addresses that are others while the agent runs.

mod addresses;
mod credentials;
mod discovery;
mod reload;
mod rollout;
mod services;
mod telling;
