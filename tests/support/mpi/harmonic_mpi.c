/* A small MPI program for tests: energy and forces of springs between all pairs of atoms of an xyz file.
 *
 *   harmonic_mpi STRUCTURE.xyz STIFFNESS LENGTH [SECONDS]
 *
 * E = sum over pairs of STIFFNESS / 2 (r - LENGTH)^2, in eV, eV/Angstrom^2 and Angstrom. The ranks share the pairs, and
 * rank 0 writes result.json with the sums and the number of ranks. SECONDS: every rank sleeps so long first.
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MAXIMUM 1000

int main(int argc, char **argv) {
  MPI_Init(&argc, &argv);
  int rank, ranks, atoms = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  double x[3 * MAXIMUM], sums[3 * MAXIMUM + 1] = {0}, totals[3 * MAXIMUM + 1] = {0};
  double stiffness = atof(argv[2]), length = atof(argv[3]);
  if (argc > 4) sleep(atoi(argv[4]));
  if (rank == 0) {
    FILE *in = fopen(argv[1], "r");
    char symbol[8], line[4096];
    if (!in || !fgets(line, sizeof line, in) || (atoms = atoi(line)) < 1 || atoms > MAXIMUM || !fgets(line, sizeof line, in)) {
      fprintf(stderr, "cannot read %s\n", argv[1]);
      MPI_Abort(MPI_COMM_WORLD, 3);
    }
    for (int i = 0; i < atoms; i++)
      if (fscanf(in, "%7s %lf %lf %lf", symbol, x + 3 * i, x + 3 * i + 1, x + 3 * i + 2) != 4) MPI_Abort(MPI_COMM_WORLD, 4);
    fclose(in);
  }
  MPI_Bcast(&atoms, 1, MPI_INT, 0, MPI_COMM_WORLD);
  MPI_Bcast(x, 3 * atoms, MPI_DOUBLE, 0, MPI_COMM_WORLD);
  for (int i = 0, pair = 0; i < atoms; i++)
    for (int j = 0; j < i; j++, pair++) {
      if (pair % ranks != rank) continue;
      double d[3], r = 0;
      for (int k = 0; k < 3; k++) d[k] = x[3 * i + k] - x[3 * j + k], r += d[k] * d[k];
      r = sqrt(r);
      sums[3 * atoms] += 0.5 * stiffness * (r - length) * (r - length);
      for (int k = 0; k < 3; k++) {
        double force = -stiffness * (r - length) * d[k] / r;
        sums[3 * i + k] += force, sums[3 * j + k] -= force;
      }
    }
  MPI_Reduce(sums, totals, 3 * atoms + 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
  if (rank == 0) {
    FILE *out = fopen("result.json", "w");
    fprintf(out, "{\"total\": %.15g, \"derivative\": [", totals[3 * atoms]);
    for (int i = 0; i < 3 * atoms; i++)
      fprintf(out, "%s%.15g%s", i % 3 ? ", " : i ? ", [" : "[", -totals[i], i % 3 == 2 ? "]" : "");
    fprintf(out, "]}\n");
    fclose(out);
    printf("%d ranks done\n", ranks);
  }
  MPI_Finalize();
  return 0;
}
