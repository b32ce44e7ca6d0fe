"""What the SDK is compared with: the same work over other libraries, and in the published order."""
