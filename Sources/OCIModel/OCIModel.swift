// OCIModel
