// ContainerLaunch
