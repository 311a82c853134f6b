package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/permafrost-ml/permafrost/pipeline"
	"github.com/permafrost-ml/permafrost/source"
)

// schemaVersion is that of every JSON document printed; fields are added to
// them, never changed.
const schemaVersion = 1

// config is a pipeline's configuration as files declare it.
type config = pipeline.Config[source.Fields]

// app is what all commands share: where to print, and the global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	started        bool // the command line was understood

	json     bool
	progress string
	verbose  bool
	quiet    bool
}

// command returns the root command.
func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "pipeline",
		Short: "Encode once, train often: an Arrow cache of frozen encoders' embeddings",
		Long: `pipeline encodes a dataset once with frozen encoders, keeps the embeddings in
a cache directory and trains small heads on them.

Results go to the standard output; progress, logs and errors to the standard
error. With --json a command prints exactly one JSON document.`,
		Example:       "  pipeline init data.jsonl --output config.yaml\n  pipeline run config.yaml",
		Args:          cobra.NoArgs,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			if !slices.Contains([]string{progressAuto, progressPlain, progressJSON, progressNone}, a.progress) {
				return fmt.Errorf("--progress is auto, plain, json or none, not %q", a.progress)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	f := root.PersistentFlags()
	f.BoolVar(&a.json, "json", false, "print one JSON document instead of text")
	f.StringVar(&a.progress, "progress", progressAuto, "how progress is shown, a `FORM`: auto, plain, json or none")
	f.BoolVarP(&a.verbose, "verbose", "v", false, "log more")
	f.BoolVarP(&a.quiet, "quiet", "q", false, "log errors only, and show no progress")
	root.MarkFlagsMutuallyExclusive("verbose", "quiet")
	root.AddCommand(
		a.initCommand(), a.runCommand(), a.planCommand(), a.fillCommand(), a.trainCommand(), a.evalCommand(),
		a.encodeCommand(), a.inspectCommand(), a.verifyCommand(), a.repairCommand(), a.gcCommand(), a.diffCommand(),
		a.exportCommand(), a.serveCommand(), a.tuneCommand(),
		a.modelCommand(), a.versionCommand(),
	)
	a.watch(root)
	return root
}

// watch notes when a command of the tree starts.
func (a *app) watch(cmd *cobra.Command) {
	do := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		a.started = true
		return do(cmd, args)
	}
	for _, sub := range cmd.Commands() {
		a.watch(sub)
	}
}

// wantsJSON looks for --json on a command line that may not parse.
func wantsJSON(args []string) bool {
	for _, arg := range args {
		if arg == "--" {
			return false
		}
		if arg == "--json" {
			return true
		}
		if v, ok := strings.CutPrefix(arg, "--json="); ok {
			on, err := strconv.ParseBool(v)
			return err == nil && on
		}
	}
	return false
}

// help returns a command's long description with its exit codes.
func help(text string, codes ...int) string {
	var b strings.Builder
	b.WriteString(strings.TrimSpace(text) + "\n\nExit codes:\n")
	codes = append([]int{exitOK, exitFailed, exitUsage}, codes...)
	for _, c := range append(codes, exitSignal) {
		b.WriteString("  " + exitMeaning(c) + "\n")
	}
	return strings.TrimRight(b.String(), "\n")
}

// printJSON prints the one document of a command.
func (a *app) printJSON(v any) error {
	enc := json.NewEncoder(a.stdout)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// logger returns the logger that writes to w.
func (a *app) logger(w io.Writer) *slog.Logger {
	opts := &slog.HandlerOptions{Level: slog.LevelInfo}
	if a.verbose {
		opts.Level = slog.LevelDebug
	}
	if a.quiet {
		opts.Level = slog.LevelError
	}
	if a.progress == progressJSON {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

// configFlags are the flags of commands that read a config.
type configFlags struct {
	sets    []string
	limit   int64
	onError string
	check   bool
	space   bool
	verify  string
}

func (f *configFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringArrayVar(&f.sets, "set", nil, "override a value of the config, such as `a.b=c`; may be repeated")
	fs.Int64Var(&f.limit, "limit", 0, "take only the first `N` rows of each split")
	fs.StringVar(&f.onError, "on-error", "", "what becomes of bad rows, a `POLICY`: fail, skip or quarantine (default: as the config says)")
}

// addSources adds the flag of commands that ask whether the dataset has
// changed.
func (f *configFlags) addSources(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.check, "check-sources", false, "read the dataset's files even if size, times and inode are those of the last time")
}

// addSpace adds the flag of commands that write to the cache.
func (f *configFlags) addSpace(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.space, "ignore-space", false, "fill even if the storage says that it has too little room")
}

// addVerify adds the flag of commands that replay the cache.
func (f *configFlags) addVerify(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.verify, "verify", "auto", "check the checksums of embeddings, `WHEN`: auto, when a file is new or has changed, or always")
}

// load reads a config and applies the flags.
func (f *configFlags) load(cmd *cobra.Command, path string) (config, error) {
	if cmd.Flags().Changed("limit") && f.limit < 1 {
		return config{}, usagef("--limit takes a number from 1, not %d", f.limit)
	}
	policies := []source.OnError{"", source.Fail, source.Skip, source.Quarantine}
	if !slices.Contains(policies, source.OnError(f.onError)) {
		return config{}, usagef("--on-error is fail, skip or quarantine, not %q", f.onError)
	}
	if !slices.Contains([]string{"", "auto", "always"}, f.verify) {
		return config{}, usagef("--verify is auto or always, not %q", f.verify)
	}
	cfg, err := pipeline.LoadConfig(path, f.sets...)
	if err != nil {
		return cfg, err
	}
	cfg.CheckSources, cfg.IgnoreSpace, cfg.VerifyAlways = f.check, f.space, f.verify == "always"
	if f.limit > 0 {
		cfg.Limit = f.limit
	}
	if f.onError != "" {
		cfg.OnError = source.OnError(f.onError)
	}
	return cfg, nil
}

// withPipeline makes a pipeline that shows progress, for the length of fn.
func (a *app) withPipeline(ctx context.Context, cfg config, fn func(context.Context, *pipeline.Pipeline[source.Fields]) error) error {
	m := a.newMeter()
	defer m.done()
	cfg.OnProgress = m.pipeline
	cfg.Logger = a.logger(m)
	p, err := pipeline.New(cfg)
	if err != nil {
		return err
	}
	return errors.Join(fn(ctx, p), p.Close())
}

// oneArg is the argument check of commands that take one thing.
func oneArg(what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("want one argument, %s, not %d", what, len(args))
		}
		return nil
	}
}
