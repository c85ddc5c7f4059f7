// ResourceManagers
