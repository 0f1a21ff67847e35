package rest

// handlers is who serves which operation of the document. A name that the document
// lacks, or one that is missing here, ends New.
func (s *Server) handlers() map[string]func(*call) error {
	return map[string]func(*call) error{
		"os_name":           func(c *call) error { return c.json("OSv") },
		"os_version":        osVersion,
		"os_vendor":         osVendor,
		"os_manufacturer":   osVendor,
		"os_uptime":         osUptime,
		"os_date":           osDate,
		"os_memory":         osMemory,
		"os_memory_total":   osMemoryTotal,
		"os_memory_free":    osMemoryFree,
		"os_memory_balloon": osMemoryBalloon,
		"os_threads":        osThreads,
		"os_dmesg":          osDmesg,
		"os_get_hostname":   osGetHostname,
		"os_set_hostname":   osSetHostname,
		"os_get_cmdline":    osGetCmdline,
		"os_set_cmdline":    osSetCmdline,
		"os_shutdown":       osShutdown,
		"os_poweroff":       osPoweroff,
		"os_reboot":         osReboot,

		"processorFeatures": hwFlags,
		"processorCount":    hwCount,
		"processors":        hwProcessors,
		"firmware_vendor":   hwFirmware,
		"hypervisor_name":   hwHypervisor,
		"hardware_disks":    hwDisks,

		"listIfconfig": listIfconfig,
		"getIfconfig":  getIfconfig,
		"getRoute":     getRoute,

		"list_df_stats": listDF,
		"getDFStats":    getDF,

		"getFile": getFile,
		"putFile": putFile,
		"upload":  upload,
		"delFile": delFile,

		"list_env": listEnv,
		"getEnv":   getEnv,
		"setEnv":   setEnv,
		"unsetEnv": unsetEnv,

		"getTraceEventStatus":       getTraceStatus,
		"setTraceEventStatus":       setTraceStatus,
		"getSingleTraceEventStatus": getTraceEvent,
		"setSingleTraceEventStatus": setTraceEvent,
		"setCountEvent":             setCountEvent,
		"getCounts":                 getCounts,
		"deleteCounts":              deleteCounts,
		"setSamplerState":           setSampler,
		"getSampler":                getSampler,
		"getTraceBuffers":           getTraceBuffers,

		"run_app":      runApp,
		"finished_app": finishedApp,

		"api_batch": apiBatch,
		"stop_api":  stopAPI,

		"getJavaVersion":  noJVM,
		"getGCinfo":       noJVM,
		"forceGC":         noJVM,
		"getMbeanList":    noJVM,
		"getMbean":        noJVM,
		"setMbean":        noJVM,
		"jolokia_version": noJVM,
		"jolokia_post":    noJVM,
		"jolokia_get":     noJVM,

		"swagger_resources":   swaggerResources,
		"swagger_declaration": swaggerDeclaration,
		"openapi":             openapi,
		"metrics":             serveMetrics,
		"pprof_index":         pprofIndex,
		"pprof_profile":       pprofProfile,

		"ui_swagger":   uiPage("swagger.html"),
		"ui_dashboard": uiPage("dashboard.html"),
		"ui_asset":     uiAsset,
		"ui_favicon":   uiFavicon,
	}
}
