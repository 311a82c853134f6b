package cli

import "testing"

func TestShort(t *testing.T) {
	tests := []struct{ got, want string }{
		{short("abc"), "abc"},
		{short("0123456789abcdef"), "0123456789ab"},
	}
	for _, test := range tests {
		if test.got != test.want {
			t.Errorf("%q, want %q", test.got, test.want)
		}
	}
}
