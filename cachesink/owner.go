package cachesink

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// owner is a process, as far as others on its machine can find it again.
type owner struct {
	// Machine is a machine between two starts, and a space of process ids on
	// it; empty where the system does not tell.
	Machine string `json:"machine"`
	PID     int    `json:"pid"`
	// Started is when the process started, in the system's own count.
	Started string `json:"started"`
}

// self returns the process that asks.
func self() owner {
	o := owner{PID: os.Getpid()}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	space, err2 := os.Readlink("/proc/self/ns/pid")
	started, err3 := startOf(o.PID)
	if errors.Join(err, err2, err3) == nil {
		o.Machine, o.Started = strings.TrimSpace(string(boot))+" "+space, started
	}
	return o
}

// here says that o is a process of this machine.
func (o owner) here() bool { return o.Machine != "" && o.Machine == self().Machine }

// ended says that o is a process of this machine that is no more. Of others
// it is not known.
func (o owner) ended() bool {
	if !o.here() {
		return false
	}
	started, err := startOf(o.PID)
	return errors.Is(err, fs.ErrNotExist) || err == nil && started != o.Started
}

// startOf returns the start of a process. One that has ended and was not yet
// waited for counts as gone.
func startOf(pid int) (string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", err
	}
	// The name, in parentheses, may hold anything.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	const state, start = 0, 19
	if len(fields) <= start {
		return "", fmt.Errorf("process %d: %d fields", pid, len(fields))
	}
	if s := string(fields[state]); s == "Z" || s == "X" {
		return "", fs.ErrNotExist
	}
	return string(fields[start]), nil
}
