//! Where mail goes: DNS answers and promises turned into a delivery plan.
