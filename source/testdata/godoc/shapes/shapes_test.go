package shapes

// Helper is a helper for tests and nothing else.
func Helper() {}
