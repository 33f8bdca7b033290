package app

import (
	runtimev1 "cosmossdk.io/api/cosmos/app/runtime/v1alpha1"
	appv1 "cosmossdk.io/api/cosmos/app/v1alpha1"
	authv1 "cosmossdk.io/api/cosmos/auth/module/v1"
	bankv1 "cosmossdk.io/api/cosmos/bank/module/v1"
	consensusv1 "cosmossdk.io/api/cosmos/consensus/module/v1"
	distributionv1 "cosmossdk.io/api/cosmos/distribution/module/v1"
	genutilv1 "cosmossdk.io/api/cosmos/genutil/module/v1"
	govv1 "cosmossdk.io/api/cosmos/gov/module/v1"
	mintv1 "cosmossdk.io/api/cosmos/mint/module/v1"
	slashingv1 "cosmossdk.io/api/cosmos/slashing/module/v1"
	stakingv1 "cosmossdk.io/api/cosmos/staking/module/v1"
	txv1 "cosmossdk.io/api/cosmos/tx/config/v1"
	upgradev1 "cosmossdk.io/api/cosmos/upgrade/module/v1"
	"cosmossdk.io/core/appconfig"
	"cosmossdk.io/depinject"
	sdkmodule "github.com/cosmos/cosmos-sdk/types/module"
	"github.com/cosmos/cosmos-sdk/x/genutil"
	genutiltypes "github.com/cosmos/cosmos-sdk/x/genutil/types"
	"github.com/cosmos/gogoproto/proto"

	_ "github.com/cosmos/cosmos-sdk/x/auth"           // for its module
	_ "github.com/cosmos/cosmos-sdk/x/auth/tx/config" // for its module
	_ "github.com/cosmos/cosmos-sdk/x/bank"           // for its module
	_ "github.com/cosmos/cosmos-sdk/x/consensus"      // for its module
	_ "github.com/cosmos/cosmos-sdk/x/distribution"   // for its module
	_ "github.com/cosmos/cosmos-sdk/x/gov"            // for its module
	_ "github.com/cosmos/cosmos-sdk/x/mint"           // for its module
	_ "github.com/cosmos/cosmos-sdk/x/slashing"       // for its module
	_ "github.com/cosmos/cosmos-sdk/x/staking"        // for its module
	_ "github.com/cosmos/cosmos-sdk/x/upgrade"        // for its module

	"solstice/testchain/ledger"
)

// Name is the name of the app and of its binary.
const Name = "chaind"

// config lists the modules of the SDK and the order in which they run. The ledger is named in the
// orders too, but New registers it, because it has no protobuf configuration.
var config = depinject.Configs(appconfig.Compose(&appv1.Config{Modules: []*appv1.ModuleConfig{
	module("runtime", &runtimev1.Module{
		AppName:       Name,
		PreBlockers:   []string{"upgrade", "auth"},
		BeginBlockers: []string{"mint", "distribution", "slashing", "staking"},
		EndBlockers:   []string{"bank", "gov", "staking"},
		// Genesis transactions need the state of all modules before them.
		InitGenesis: []string{
			"auth", "bank", "distribution", "staking", "slashing", "gov", "mint", ledger.ModuleName,
			"consensus", "genutil", "upgrade",
		},
		SkipStoreKeys:     []string{"tx"},
		OverrideStoreKeys: []*runtimev1.StoreKeyConfig{{ModuleName: "auth", KvStoreKey: "acc"}},
	}),
	module("auth", &authv1.Module{
		Bech32Prefix: "cosmos",
		ModuleAccountPermissions: []*authv1.ModuleAccountPermission{
			{Account: "fee_collector"},
			{Account: "distribution"},
			{Account: "mint", Permissions: []string{"minter"}},
			{Account: "bonded_tokens_pool", Permissions: []string{"burner", "staking"}},
			{Account: "not_bonded_tokens_pool", Permissions: []string{"burner", "staking"}},
			{Account: "gov", Permissions: []string{"burner"}},
		},
	}),
	module("tx", &txv1.Config{}),
	module("bank", &bankv1.Module{}),
	module("consensus", &consensusv1.Module{}),
	module("distribution", &distributionv1.Module{}),
	module("genutil", &genutilv1.Module{}),
	module("gov", &govv1.Module{}),
	module("mint", &mintv1.Module{}),
	module("slashing", &slashingv1.Module{}),
	module("staking", &stakingv1.Module{}),
	module("upgrade", &upgradev1.Module{}),
}}), mintKeeper, depinject.Supply(basics))

// mintKeeper says which staking keeper mint gets: its own keeper has the same methods.
var mintKeeper = depinject.BindInterface(
	"github.com/cosmos/cosmos-sdk/x/mint/types/types.StakingKeeper",
	"github.com/cosmos/cosmos-sdk/x/staking/keeper/*keeper.Keeper",
)

// basics are what the genesis commands need of genutil: the check of genesis transactions.
var basics = map[string]sdkmodule.AppModuleBasic{
	genutiltypes.ModuleName: genutil.NewAppModuleBasic(genutiltypes.DefaultMessageValidator),
}

// module names a module and its configuration.
func module(name string, cfg proto.Message) *appv1.ModuleConfig {
	return &appv1.ModuleConfig{Name: name, Config: appconfig.WrapAny(cfg)}
}
