package main

// Run starts the program from the root folder.
func Run() {}

func main() { Run() }
