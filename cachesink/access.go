package cachesink

import "fmt"

// Access says how replay reaches the files of a cache that are not compressed.
type Access string

// The ways of access.
const (
	// AccessMapped maps the files, so that they need not fit in memory and a
	// cache opens at once. Batches may lie in their pages: who cuts a file
	// while a batch of it is looked at ends the process.
	AccessMapped Access = "mapped"
	// AccessCopy reads the files into memory, checked, before the first batch.
	// What is done to them later has no effect.
	AccessCopy Access = "copy"
)

// ParseAccess reads a way of access; the empty string is AccessMapped.
func ParseAccess(s string) (Access, error) {
	switch a := Access(s); a {
	case "":
		return AccessMapped, nil
	case AccessMapped, AccessCopy:
		return a, nil
	}
	return "", fmt.Errorf("access %q is none of mapped, copy", s)
}
