# Keys of the configuration file by the options that write them. What is not here is set by the option `settings`.
rec {
  # In [defaults] and in each [workspaces.NAME].
  limits = {
    memory_limit = "memoryLimit";
    memory_soft_limit = "memorySoftLimit";
    memory_low = "memoryLow";
    cpu_limit = "cpuLimit";
    cpu_weight = "cpuWeight";
    tasks_max = "tasksMax";
    apply = "apply";
  };

  top = {
    domain = "domain";
    workspace_base = "workspaceBase";
    start_on_boot = "startOnBoot";
    reserved_ports = "reservedPorts";
  };

  gateway.session_lifetime = "sessionLifetime";

  workspace = {
    account = "account";
    password_file = "passwordFile";
    port = "port";
  }
  // limits;

  # Written in other ways than one to one, for the document.
  others = {
    image = {
      name = "baseImage, image.name, image.package";
      archive = "image.archive, image.package";
      pull = "baseImage, image.pull";
    };
    nginx = {
      certificate = "acmeHost, tls.certificate";
      certificate_key = "acmeHost, tls.certificateKey";
      group = "services.nginx.group";
      snippet_dir = "settings";
      unit = "settings";
      listen = "settings";
      public_port = "settings";
      plain_http1 = "settings";
    };
    variables = {
      environment = "environment";
      secret_environment = "secretEnvironment, environment";
    };
    workspace.enabled = "enable";
  };
}
