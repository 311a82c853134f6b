package hidden

// Hidden is not part of any public API.
func Hidden() {}
