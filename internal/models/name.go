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
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case alphanumeric(c), c == '_' && b.Len() > 0:
			b.WriteByte(c)
		case b.Len() > 0 && (c == '.' || c == '-' || c == ' ') && !strings.HasSuffix(b.String(), "-") && !strings.HasSuffix(b.String(), "."):
			b.WriteByte(map[byte]byte{'.': '.', '-': '-', ' ': '-'}[c])
		}
	}
	name := b.String()
	return strings.TrimRight(name[:min(len(name), maxName)], ".-")
}
