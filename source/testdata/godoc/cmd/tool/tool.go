package tool

// Tool is a package below the folder of commands.
func Tool() {}
