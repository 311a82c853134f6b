package models

import (
	"fmt"
	"strings"
)

// maxName bounds both parts of a name, as the public hub does.
const maxName = 96

// checkName accepts NAME and ORG/NAME as hubs do: letters, digits, ".", "_"
// and "-"; without "--", which stands for the slash in a folder's name.
func checkName(name string) error {
	parts := strings.Split(name, "/")
	bad := len(parts) > 2
	for _, p := range parts {
		bad = bad || p == "" || len(p) > maxName || !alphanumeric(p[0]) || strings.HasSuffix(p, ".") || strings.HasSuffix(p, "-") ||
			strings.Contains(p, "--") || strings.Contains(p, "..")
		for i := range len(p) {
			bad = bad || !alphanumeric(p[i]) && !strings.ContainsRune("._-", rune(p[i]))
		}
	}
	if bad {
		return fmt.Errorf("%w: %q: want NAME or ORG/NAME of letters, digits, single \"-\" and \".\", and \"_\"", ErrName, name)
	}
	return nil
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// folderOf is the name of a model's folder.
func folderOf(name string) string { return strings.Replace(name, "/", "--", 1) }

// nameOf makes a name of any text, "" if there is nothing to make one of.
func nameOf(text string) string {
	var b []byte
	for i := range len(text) {
		c := text[i]
		if c == ' ' {
			c = '-'
		}
		last := byte('.') // nothing but a letter or a digit may be first
		if len(b) > 0 {
			last = b[len(b)-1]
		}
		switch {
		case alphanumeric(c), c == '_' && len(b) > 0, (c == '.' || c == '-') && last != '.' && last != '-':
			b = append(b, c)
		}
	}
	return strings.TrimRight(string(b[:min(len(b), maxName)]), ".-")
}
