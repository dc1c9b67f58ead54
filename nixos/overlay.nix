# The program, and the three Python packages in each of nixpkgs's Pythons.
final: prev: {
  litefs-py = final.callPackage ./package.nix { };
  pythonPackagesExtensions = prev.pythonPackagesExtensions ++ [ (import ./python.nix) ];
}
