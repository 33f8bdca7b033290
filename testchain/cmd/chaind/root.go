package main

import (
	"fmt"
	"os"

	"cosmossdk.io/client/v2/autocli"
	"cosmossdk.io/core/appmodule"
	"cosmossdk.io/log/v2"
	cmtconfig "github.com/cometbft/cometbft/config"
	dbm "github.com/cosmos/cosmos-db"
	"github.com/cosmos/cosmos-sdk/client"
	"github.com/cosmos/cosmos-sdk/client/config"
	"github.com/cosmos/cosmos-sdk/client/debug"
	"github.com/cosmos/cosmos-sdk/client/keys"
	"github.com/cosmos/cosmos-sdk/client/rpc"
	"github.com/cosmos/cosmos-sdk/runtime/services"
	"github.com/cosmos/cosmos-sdk/server"
	servertypes "github.com/cosmos/cosmos-sdk/server/types"
	authcli "github.com/cosmos/cosmos-sdk/x/auth/client/cli"
	authtypes "github.com/cosmos/cosmos-sdk/x/auth/types"
	genutilcli "github.com/cosmos/cosmos-sdk/x/genutil/client/cli"
	"github.com/spf13/cobra"

	"solstice/testchain/app"
)

// newRootCommand returns the usual commands of a chain's binary.
func newRootCommand(home string) (*cobra.Command, error) {
	a, err := app.New(log.NewNopLogger(), dbm.NewMemDB(), noOptions{})
	if err != nil {
		return nil, err
	}
	signing := a.Registry.SigningContext()
	clientCtx := client.Context{}.
		WithCodec(a.Codec).
		WithInterfaceRegistry(a.Registry).
		WithLegacyAmino(a.Amino).
		WithTxConfig(a.TxConfig).
		WithAccountRetriever(authtypes.AccountRetriever{}).
		WithInput(os.Stdin).
		WithHomeDir(home).
		WithViper("CHAIND")

	root := &cobra.Command{
		Use:           app.Name,
		Short:         "The test chain, version " + app.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(cmd.OutOrStdout())
			cmd.SetErr(cmd.ErrOrStderr())
			ctx, err := client.ReadPersistentCommandFlags(clientCtx.WithCmdContext(cmd.Context()), cmd.Flags())
			if err != nil {
				return err
			}
			if ctx, err = config.ReadFromClientConfig(ctx); err != nil {
				return err
			}
			if err := client.SetCmdClientContextHandler(ctx, cmd); err != nil {
				return err
			}
			return server.InterceptConfigsPreRunHandler(cmd, "", nil, cmtconfig.DefaultConfig())
		},
	}

	addNoFlags := func(*cobra.Command) {}
	server.AddCommands(root, home, newApp, exportApp, addNoFlags)
	server.AddTestnetCreatorCommand(root, newTestnetApp, addNoFlags)
	root.AddCommand(
		genutilcli.InitCmd(a.Basics, home),
		genutilcli.Commands(a.TxConfig, a.Basics, home),
		debug.Cmd(),
		keys.Commands(),
		server.StatusCommand(),
		group("query", "Query subcommands", "q",
			rpc.WaitTxCmd(), server.QueryBlockCmd(), server.QueryBlocksCmd(), server.QueryBlockResultsCmd(),
			authcli.QueryTxCmd(), authcli.QueryTxsByEventsCmd()),
		group("tx", "Transaction subcommands", "",
			authcli.GetSignCommand(), authcli.GetBroadcastCommand(), authcli.GetEncodeCommand(),
			authcli.GetDecodeCommand(), authcli.GetSimulateCmd()),
	)
	if app.Version == "v2" {
		root.AddCommand(preUpgradeCommand())
	}

	modules := map[string]appmodule.AppModule{}
	for name, module := range a.ModuleManager.Modules {
		if m, ok := module.(appmodule.AppModule); ok {
			modules[name] = m
		}
	}
	err = autocli.AppOptions{
		Modules:               modules,
		ModuleOptions:         services.ExtractAutoCLIOptions(a.ModuleManager.Modules),
		AddressCodec:          signing.AddressCodec(),
		ValidatorAddressCodec: signing.ValidatorAddressCodec(),
		ConsensusAddressCodec: a.ConsensusAddressCodec,
		ClientCtx:             clientCtx,
	}.EnhanceRootCommand(root)
	return root, err
}

// preUpgradeCommand is what a supervisor runs before the first start of a new binary. Only v2 has
// it, so that supervisors are tried with and without.
func preUpgradeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pre-upgrade",
		Short: "Prepare the home for this version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "pre-upgrade of %s: nothing to prepare\n", app.Version)
		},
	}
}

// group returns a command that holds others.
func group(use, short, alias string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, SuggestionsMinimumDistance: 2, RunE: client.ValidateCmd}
	if alias != "" {
		cmd.Aliases = []string{alias}
	}
	cmd.AddCommand(commands...)
	return cmd
}

// newApp opens the app of a node. It panics on an error, as servertypes.AppCreator leaves no other way.
func newApp(logger log.Logger, db dbm.DB, options servertypes.AppOptions) servertypes.Application {
	a, err := app.New(logger, db, options, server.DefaultBaseappOptions(options)...)
	if err == nil {
		err = a.Load(true)
	}
	if err != nil {
		panic(err)
	}
	return a
}

// newTestnetApp opens the app for in-place-testnet.
func newTestnetApp(logger log.Logger, db dbm.DB, options servertypes.AppOptions) servertypes.Application {
	a, err := app.New(logger, db, options, server.DefaultBaseappOptions(options)...)
	if err == nil {
		a.AddTestnetStores(options)
		err = a.Load(true)
	}
	if err == nil {
		err = a.BecomeTestnet(options)
	}
	if err != nil {
		panic(err)
	}
	return a
}

// exportApp exports the state at a height, or at the latest one if height is -1.
func exportApp(logger log.Logger, db dbm.DB, height int64, forZeroHeight bool, _ []string,
	options servertypes.AppOptions, modules []string,
) (servertypes.ExportedApp, error) {
	if forZeroHeight {
		return servertypes.ExportedApp{}, fmt.Errorf("%s does not export for height zero", app.Name)
	}
	a, err := app.New(logger, db, options)
	if err != nil {
		return servertypes.ExportedApp{}, err
	}
	if err := a.Load(height == -1); err != nil {
		return servertypes.ExportedApp{}, err
	}
	if height != -1 {
		if err := a.LoadHeight(height); err != nil {
			return servertypes.ExportedApp{}, err
		}
	}
	return a.Export(modules)
}

// noOptions are options without values, and so without a home.
type noOptions struct{}

// Get returns nothing.
func (noOptions) Get(string) any { return nil }
